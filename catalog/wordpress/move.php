<?php
// Managed by socle. Makes the content of one site that of another: who it was and who it is come on standard
// input. Addresses and paths are changed wherever they stand, in serialized values too. May be run again.
$told = json_decode( stream_get_contents( STDIN ), true, 4, JSON_THROW_ON_ERROR );
$from = $told['from'];
$to   = $told['to'];

$pairs = array();
if ( $from['domain'] !== $to['domain'] ) {
	// As it is written in pages, in JSON, and inside other addresses; a longer name is another one.
	foreach ( array( '//', '\\/\\/', '%2F%2F' ) as $before ) {
		$name                   = preg_quote( $before . $from['domain'], '~' );
		$pairs[ "~$name(?![a-z0-9-]|\\.[a-z0-9])~i" ] = $before . $to['domain'];
	}
}
if ( $from['name'] !== $to['name'] ) {
	foreach ( array( '/', '\\/' ) as $slash ) {
		$path = static fn ( $name ) => implode( $slash, array( '', 'srv', 'socle', $name, '' ) );
		$pairs[ '~' . preg_quote( $path( $from['name'] ), '~' ) . '~' ] = $path( $to['name'] );
	}
}

/** Changes a text. */
function changed( string $text ): string {
	global $pairs;
	$new = preg_replace_callback_array(
		array_map( static fn ( $with ) => static fn () => $with, $pairs ),
		$text
	);
	if ( null === $new ) {
		fwrite( STDERR, 'cannot look through a value: ' . preg_last_error_msg() . "\n" );
		exit( 1 );
	}
	return $new;
}

/**
 * Changes the texts of a serialized value, whose lengths are told with them; null if it is none. Nothing is
 * unserialized: no code of an object is run.
 */
function changed_serialized( string $value ): ?string {
	$out = '';
	$at  = 0;
	$end = strlen( $value );
	while ( $at < $end ) {
		if ( preg_match( '/\G(?:[bidrR]:[^;]*;|N;|a:\d+:\{|O:\d+:"[^"]*":\d+:\{|E:\d+:"[^"]*";|\})/', $value, $part, 0, $at ) ) {
			$out .= $part[0];
			$at  += strlen( $part[0] );
			continue;
		}
		if ( ! preg_match( '/\Gs:(\d+):"/', $value, $part, 0, $at ) ) {
			return null;
		}
		$at  += strlen( $part[0] );
		$text = substr( $value, $at, (int) $part[1] );
		$at  += (int) $part[1];
		if ( strlen( $text ) !== (int) $part[1] || '";' !== substr( $value, $at, 2 ) ) {
			return null;
		}
		$at  += 2;
		$text = changed_value( $text );
		$out .= 's:' . strlen( $text ) . ':"' . $text . '";';
	}
	return $out;
}

/** Changes a value that may be serialized. */
function changed_value( string $value ): string {
	if ( preg_match( '/^(?:[abidsNOE]:|N;)/', $value ) ) {
		$serialized = changed_serialized( $value );
		if ( null !== $serialized ) {
			return $serialized;
		}
	}
	return changed( $value );
}

mysqli_report( MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT );
$database = new mysqli( 'localhost', {{ user }}, '', {{ db }}, 0, '/run/mysqld/mysqld.sock' );
$database->set_charset( 'utf8mb4' );
// Rows are read one after the other, however many there are, while others are written.
$reader = new mysqli( 'localhost', {{ user }}, '', {{ db }}, 0, '/run/mysqld/mysqld.sock' );
$reader->set_charset( 'utf8mb4' );
$quoted = static fn ( $name ) => '`' . str_replace( '`', '``', $name ) . '`';
$needles = array( $from['domain'], "socle/{$from['name']}/", "socle\\/{$from['name']}\\/" );
$count   = 0;

foreach ( array_column( $database->query( "SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'" )->fetch_all(), 0 ) as $table ) {
	$keys  = array();
	$texts = array();
	foreach ( $database->query( 'SHOW COLUMNS FROM ' . $quoted( $table ) )->fetch_all( MYSQLI_ASSOC ) as $column ) {
		if ( 'PRI' === $column['Key'] ) {
			$keys[] = $column['Field'];
		} elseif ( preg_match( '/char|text/i', $column['Type'] ) && ! ( str_ends_with( $table, '_posts' ) && 'guid' === $column['Field'] ) ) {
			// The guid of a post is its name for readers of feeds, and no address.
			$texts[] = $column['Field'];
		}
	}
	if ( ! $keys || ! $texts ) {
		continue;
	}
	$like = array();
	foreach ( $texts as $text ) {
		foreach ( $needles as $needle ) {
			$like[] = $quoted( $text ) . " LIKE '%" . $database->real_escape_string( addcslashes( $needle, '%_\\' ) ) . "%'";
		}
	}
	$columns = implode( ', ', array_map( $quoted, array_merge( $keys, $texts ) ) );
	$where   = implode( ' AND ', array_map( static fn ( $key ) => $quoted( $key ) . ' = ?', $keys ) );
	$select  = "SELECT $columns FROM " . $quoted( $table ) . ' WHERE ' . implode( ' OR ', $like );
	$rows    = $reader->query( $select, MYSQLI_USE_RESULT );
	while ( $row = $rows->fetch_assoc() ) {
		$set = array();
		foreach ( $texts as $text ) {
			if ( null !== $row[ $text ] && changed_value( $row[ $text ] ) !== $row[ $text ] ) {
				$set[ $text ] = changed_value( $row[ $text ] );
			}
		}
		if ( ! $set ) {
			continue;
		}
		$names  = implode( ', ', array_map( static fn ( $text ) => $quoted( $text ) . ' = ?', array_keys( $set ) ) );
		$values = array_merge( array_values( $set ), array_map( static fn ( $key ) => (string) $row[ $key ], $keys ) );
		$update = $database->prepare( 'UPDATE ' . $quoted( $table ) . " SET $names WHERE $where" );
		$update->execute( $values );
		++$count;
	}
	$rows->free();
}
echo "changed $count rows\n";
