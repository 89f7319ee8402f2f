<?php
// Managed by socle. Installs WordPress from the answers on standard input. May be run again after an
// interruption: it goes on where it stopped, and touches nothing once the site is installed.
$answers = json_decode( stream_get_contents( STDIN ), true, 4, JSON_THROW_ON_ERROR );

$_SERVER['HTTP_HOST']      = {{ domain }};
$_SERVER['SERVER_PROTOCOL'] = 'HTTP/1.1';
$_SERVER['REQUEST_METHOD'] = 'GET';
$_SERVER['REQUEST_URI']    = '/';

define( 'WP_INSTALLING', true );
// Nothing is asked of the network while installing, and no mail is sent.
define( 'WP_HTTP_BLOCK_EXTERNAL', true );
function wp_mail() {
	return true;
}

require {{ current ~ "/wp-load.php" }};
require_once ABSPATH . 'wp-admin/includes/upgrade.php';

$user = is_blog_installed() ? get_user_by( 'login', $answers['admin'] ) : false;
if ( ! is_blog_installed() || ( ! $user && 0 === count( get_users( array( 'number' => 1 ) ) ) ) ) {
	$done = wp_install(
		$answers['title'],
		$answers['admin'],
		$answers['email'],
		$answers['public'],
		'',
		wp_slash( $answers['password'] )
	);
	if ( is_wp_error( $done ) ) {
		fwrite( STDERR, $done->get_error_message() . "\n" );
		exit( 1 );
	}
} elseif ( $user && ! term_exists( (int) get_option( 'default_category' ), 'category' ) ) {
	wp_install_defaults( $user->ID );
}
if ( ! is_blog_installed() ) {
	fwrite( STDERR, "the tables are not there after the installation\n" );
	exit( 1 );
}
echo 'installed ', $wp_version, ', database ', get_option( 'db_version' ), "\n";
