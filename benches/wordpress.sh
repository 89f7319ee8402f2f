#!/bin/bash
# What an admin would do by hand to put WordPress on a machine whose packages are installed, with the same outcome:
# the yardstick for the first apply. Run inside a machine: wordpress.sh URL
set -euo pipefail
url=$1 name=hand domain=hand.example.org
php=$(php -r 'echo PHP_MAJOR_VERSION.".".PHP_MINOR_VERSION;')
useradd --system --home-dir /srv/$name --shell /usr/sbin/nologin $name
usermod -aG $name www-data
mkdir -p /srv/$name; cd /srv/$name
curl -sSf "$url" -o wp.tar; mkdir site; tar -xf wp.tar --strip-components=1 -C site; rm wp.tar
mariadb -e "create database $name character set utf8mb4; create user $name@localhost identified via unix_socket; grant all on $name.* to $name@localhost"
salts=$(for key in AUTH_KEY SECURE_AUTH_KEY LOGGED_IN_KEY NONCE_KEY AUTH_SALT SECURE_AUTH_SALT LOGGED_IN_SALT NONCE_SALT; do
  echo "define('$key', '$(openssl rand -hex 32)');"; done)
cat >site/wp-config.php <<P
<?php
define('DB_NAME', '$name'); define('DB_USER', '$name'); define('DB_PASSWORD', ''); define('DB_HOST', 'localhost:/run/mysqld/mysqld.sock');
define('DB_CHARSET', 'utf8mb4'); define('DISABLE_WP_CRON', true); define('WP_HTTP_BLOCK_EXTERNAL', true);
$salts
\$table_prefix = 'wp_';
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
P
chown -R $name:$name site; chmod 640 site/wp-config.php; chmod 750 /srv/$name; chown root:$name /srv/$name
cat >/etc/php/$php/fpm/pool.d/$name.conf <<P
[$name]
user = $name
group = $name
listen = /run/php/$name.sock
listen.owner = www-data
pm = ondemand
pm.max_children = 5
P
systemctl reload-or-restart php$php-fpm
cat >/etc/nginx/sites-enabled/$name.conf <<N
server { listen 80; server_name $domain; root /srv/$name/site; index index.php;
  location / { try_files \$uri \$uri/ /index.php?\$args; }
  location ~ \.php\$ { include fastcgi.conf; fastcgi_pass unix:/run/php/$name.sock; } }
N
nginx -t -q; systemctl reload nginx
runuser -u $name -- php -r '$_SERVER["HTTP_HOST"]="'$domain'"; define("WP_INSTALLING",true); require "/srv/'$name'/site/wp-load.php"; require ABSPATH."wp-admin/includes/upgrade.php"; function wp_mail(){} wp_install("By hand","admin","a@example.org",true,"","secret-'$RANDOM'");' 2>/dev/null || true
cat >/etc/systemd/system/$name-cron.service <<U
[Service]
Type=oneshot
User=$name
ExecStart=/usr/bin/php /srv/$name/site/wp-cron.php
U
printf '[Timer]\nOnCalendar=*:0/5\n[Install]\nWantedBy=timers.target\n' >/etc/systemd/system/$name-cron.timer
systemctl daemon-reload; systemctl enable -q --now $name-cron.timer
sync
for page in '/ </html>' '/wp-login.php loginform' '/?rest_route=/ "namespaces"'; do
  curl -sSf --resolve $domain:80:127.0.0.1 "http://$domain${page% *}" -o /run/page; grep -q "${page#* }" /run/page
done
